"""What the flows do, as plain functions: with Prefect if a flow calls them, otherwise without."""
