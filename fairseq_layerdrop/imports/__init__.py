"""Models of other programs as fairseq's: folders of Hugging Face's transformers."""
