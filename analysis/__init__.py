"""From the database to contrasts, tables, figures and a report."""
