"""What a Dockerfile says, word by word, and the files that it copies; helpers/images/dockerfile.py makes a definition of it.

By the rules of BuildKit, Docker's builder: https://docs.docker.com/reference/dockerfile/"""
