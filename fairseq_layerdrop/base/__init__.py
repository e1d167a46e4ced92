"""What every room may use: errors, atomic files, journals of resumable work, tables, progress."""
