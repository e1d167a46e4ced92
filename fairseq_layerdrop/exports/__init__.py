"""Models for other programs: CTranslate2, transformers."""
