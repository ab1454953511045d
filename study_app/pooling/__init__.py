"""Summary over verified exports of several labs."""
