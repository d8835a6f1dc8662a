"""The table of values in paceline/README.md, from the comments in values.yaml.

    python3 deploy/helm/values_table.py           rewrites the table
    python3 deploy/helm/values_table.py --check   fails if it is out of date, or a value has no comment or is not in the schema
"""

import json
import pathlib
import sys

import yaml

CHART = pathlib.Path(__file__).parent / "paceline"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"


def entries(text):
    """(path, default, comment) of every value that has a comment; ValueError for one that has none."""
    found, path, comment, depth_of_value = [], [], None, None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if depth_of_value is not None and stripped and indent <= depth_of_value:
            depth_of_value = None
        if stripped.startswith("# -- "):
            comment = stripped[5:]
        elif stripped and not stripped.startswith(("#", "- ")) and depth_of_value is None:
            key, _, value = stripped.partition(":")
            path = path[: indent // 2] + [key]
            if comment is not None:
                found.append((tuple(path), comment))
                depth_of_value, comment = indent, None
            elif value.strip():
                raise ValueError(f"values.yaml:{number}: {'.'.join(path)} has no comment that begins with '# -- '")
    values = yaml.safe_load(text)
    return [(path, lookup(values, path), comment) for path, comment in found]


def lookup(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def schema_of(schema, path):
    """What the schema says of a value; KeyError if nothing."""
    here = schema
    for key in path:
        if "$ref" in here:
            here = lookup(schema, here["$ref"].removeprefix("#/").split("/"))
        here = here["properties"][key] if key in here.get("properties", {}) else here["additionalProperties"]
        if not isinstance(here, dict):
            raise KeyError(key)
    return here


def table(rows):
    lines = ["| value | default | is |", "|---|---|---|"]
    for path, default, comment in rows:
        lines.append(f"| `{'.'.join(path)}` | `{json.dumps(default)}` | {comment} |")
    return "\n".join(lines)


def main():
    rows = entries((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    for path, _, _ in rows:
        try:
            schema_of(schema, path)
        except KeyError:
            sys.exit(f"error: values.schema.json does not know {'.'.join(path)}")
    readme = CHART / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    old, _, after = rest.partition(END)
    new = f"\n{table(rows)}\n"
    if "--check" not in sys.argv:
        readme.write_text(before + BEGIN + new + END + after)
    elif old != new:
        sys.exit(f"error: the table of values in {readme} is out of date: python3 {sys.argv[0]}")
    print(f"{len(rows)} values, each with a comment, a row and a place in the schema")


if __name__ == "__main__":
    main()
