"""Reports: a run, a training or a comparison as one page for a browser, made from its folder alone; it needs no network."""
