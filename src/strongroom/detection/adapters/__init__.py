"""What detection needs of the world outside: Sigma's parser, where packs are built."""
