"""Background work: importing items, storing manifests, exporting, tidying up."""
