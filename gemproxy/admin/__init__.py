"""The admin API, the health of the whole, and the dashboard."""
