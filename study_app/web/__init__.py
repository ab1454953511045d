"""Web server: pages, routes and dashboard."""
