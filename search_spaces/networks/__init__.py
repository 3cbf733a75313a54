"""From genotype and skeleton to ``nn.Module``: all of search_spaces that needs torch."""
