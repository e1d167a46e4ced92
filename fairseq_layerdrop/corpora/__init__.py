"""Raw benchmarks -> text files that fairseq-preprocess takes."""
