"""What a person looks at: progress, tables, comparison pages and pictures."""
