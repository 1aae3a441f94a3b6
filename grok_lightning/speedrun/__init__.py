"""The speedrun: the fewest steps to 99 % validation accuracy, verified on seeds and symbols that no entry can know."""
