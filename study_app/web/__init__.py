"""What a browser gets: pages, routes, dashboard."""
