"""What a reader sees: sentences, tables, figures, gallery, one offline page."""
