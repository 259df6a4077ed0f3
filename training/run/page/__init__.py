"""Pages that need nothing but their one file: text, tables, and curves drawn by uPlot (MIT), which is inlined."""
