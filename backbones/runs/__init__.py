"""Operations on run folders: start, train, extract features, convert checkpoints, label the demo collection."""
