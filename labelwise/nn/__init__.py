"""Networks and how they learn: tensors in, tensors out; no data sets, no files."""
