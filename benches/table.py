"""Results of compare.sh as JSON, as a table, and in docs/performance.md.

    table.py collect LINES OUT.json       what compare.sh noted, with the machine
    table.py print OUT.json               a table to read
    table.py write OUT.json PAGE.md       the same between the marks of a page of Markdown
"""

import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

BEGIN, END = "<!-- compare.sh: measured -->", "<!-- compare.sh: end -->"
# Columns: what is told, and whether more is better.
HEADINGS = ["work", "unit", "Paceline median", "best", "peer", "peer median", "best", "ratio median", "least", "most", "runs"]


def pace(name, line):
    """Inner steps a second, or ns a parameter, and which of the two; the value of one run is its median."""
    if "inner_steps_per_second" in line:
        return float(line["inner_steps_per_second"]), "inner steps/s"
    if "optimizers" in line:
        rows = {row["optimizer"]: row for row in line["optimizers"]}
        wanted = "adam_w" if name.endswith("/adam_w") else line["optimizers"][0]["optimizer"]
        line = rows[wanted]
    return float(line["ns_per_parameter"]), "ns/parameter"


def spread(values, more_is_better):
    return dict(median=statistics.median(values), best=(max if more_is_better else min)(values), runs=len(values))


def processor():
    try:
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def revision():
    here = pathlib.Path(__file__).parent
    told = subprocess.run(["git", "-C", here, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return told.stdout.strip() or "unknown"


def collect(lines, out):
    works = {}
    for text in pathlib.Path(lines).read_text().splitlines():
        number, name, program, printed = text.split("\t", 3)
        works.setdefault(name, {}).setdefault(int(number), {})[program] = json.loads(printed)
    rows, machine = [], {}
    for name, rounds in works.items():
        ours, theirs, ratios, peer, unit = [], [], [], None, None
        for runs in rounds.values():
            line = runs.pop("paceline")
            own, unit = pace(name, line)
            ours.append(own)
            machine = dict(instruction_set=line["instruction_set"], threads=line["threads"])
            for peer, line in runs.items():
                other, _ = pace(name, line)
                theirs.append(other)
                # Above 1: Paceline is faster.
                ratios.append(own / other if unit == "inner steps/s" else other / own)
        more = unit == "inner steps/s"
        row = dict(work=name, unit=unit, paceline=spread(ours, more))
        if ratios:
            ratio = dict(median=statistics.median(ratios), min=min(ratios), max=max(ratios))
            row |= dict(peer=peer, peer_pace=spread(theirs, more), ratio=ratio)
        rows.append(row)
    machine |= dict(processor=processor(), cores=os.cpu_count(), revision=revision())
    machine["date"] = datetime.date.today().isoformat()
    pathlib.Path(out).write_text(json.dumps(dict(machine=machine, works=rows), indent=1) + "\n")


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def cells(row):
    own, other, ratio = row["paceline"], row.get("peer_pace"), row.get("ratio")
    theirs = [row["peer"], number(other["median"]), number(other["best"])] if other else ["–"] * 3
    ratios = [f"{ratio[key]:.2f}" for key in ("median", "min", "max")] if ratio else ["–"] * 3
    return [row["work"], row["unit"], number(own["median"]), number(own["best"]), *theirs, *ratios, str(own["runs"])]


def headline(machine):
    return "{processor}, {cores} cores, {instruction_set}, {threads} threads; revision {revision}, {date}".format(**machine)


def show(results):
    table = [HEADINGS] + [cells(row) for row in results["works"]]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADINGS))]
    print(headline(results["machine"]))
    for row in table:
        print("  ".join(cell.ljust(width) if column < 2 else cell.rjust(width)
                        for column, (cell, width) in enumerate(zip(row, widths))))


def write(results, page):
    page = pathlib.Path(page)
    text = page.read_text()
    if BEGIN not in text or END not in text:
        sys.exit(f"table.py: {page} lacks the lines {BEGIN} and {END}, between which the table goes")
    rows = [HEADINGS, ["---", "---"] + ["---:"] * (len(HEADINGS) - 2)] + [cells(row) for row in results["works"]]
    lines = [headline(results["machine"]) + ".", ""] + ["| " + " | ".join(row) + " |" for row in rows]
    before, after = text[:text.index(BEGIN)], text[text.index(END):]
    page.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + after)


def main(arguments):
    match arguments:
        case ["collect", lines, out]:
            collect(lines, out)
        case ["print", out]:
            show(json.loads(pathlib.Path(out).read_text()))
        case ["write", out, page]:
            write(json.loads(pathlib.Path(out).read_text()), page)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
