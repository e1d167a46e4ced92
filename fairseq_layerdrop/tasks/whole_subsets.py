"""What fairseq tasks need so that every sentence is scored."""

from omegaconf import OmegaConf


class WholeSubsets:
    """Mixed into a fairseq task, before it among the bases: it leaves nothing out of what isn't trained on.

    fairseq makes batches of multiples of ``--required-batch-size-multiple``, 8, and leaves out the sentences over the
    last one: the longest. In training the next epoch has others; in a score they are missing.
    """

    trains = False

    def build_model(self, cfg, from_checkpoint=False):
        self.trains = not from_checkpoint
        return super().build_model(cfg, from_checkpoint)

    def get_batch_iterator(self, dataset, *args, **kwargs):
        """fairseq's, with batches of any size but of the subset that a training trains on."""
        settings = self.cfg or self.args
        run = settings._get_parent() if OmegaConf.is_config(settings) else None
        train = OmegaConf.select(run, "dataset.train_subset") if run is not None else None
        if not self.trains or dataset is not self.datasets.get(train or "train"):
            kwargs["required_batch_size_multiple"] = 1
        return super().get_batch_iterator(dataset, *args, **kwargs)
