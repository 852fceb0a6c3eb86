"""Count the words of a text."""

import argparse
import re


def count(text):
    """How often each word is in a text, in the order of their first appearance."""
    counts = {}
    for word in re.findall(r"[^\W\d_]+", text):
        counts[word] = counts.get(word, 0) + 1
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    options = parser.parse_args()
    with open(options.file, encoding="utf-8") as file:
        counts = count(file.read())
    for word, number in counts.items():
        print(number, word)


if __name__ == "__main__":
    main()
