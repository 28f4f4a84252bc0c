"""M³PC: one masked trajectory transformer that is policy, world model and return predictor, by mask."""
