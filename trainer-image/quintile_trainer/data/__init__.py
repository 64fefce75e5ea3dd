"""Where training samples come from: order, shards, decoding, augmentation."""
