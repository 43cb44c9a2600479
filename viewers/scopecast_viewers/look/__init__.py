"""What every viewer shows alike: colours, contrast, regions, annotations. Knows no viewer."""
