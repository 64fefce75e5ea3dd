"""HTTP routes of the labeling service, by who calls them."""
