"""What transformers' families of models call the weights and the settings that fairseq's models have."""
