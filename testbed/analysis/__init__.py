"""The analysis wing: laws, fits, forecasts, designs and reports on a points table. Never imports torch."""
