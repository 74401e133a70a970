"""The admin API, the judgement of health, and the dashboard."""
