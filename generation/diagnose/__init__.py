"""What LoRAs have to do with each other, before any image is drawn; and what drawn images have to do with the prior's."""
