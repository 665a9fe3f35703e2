"""The template as CloudFormation and SAM read it, beyond what one stack shows."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from deployed import REGION, ROOT, Stack, source
from linting import cfn_lint
from samcli.yamlhelper import yaml_dump, yaml_parse


def test_cfn_lint_has_nothing_to_say():
    assert cfn_lint(ROOT / "template.yaml") == []


def test_template_holds_no_null():
    """CloudFormation refuses null anywhere in a template, and cfn-lint doesn't tell."""

    def nulls(node, path):
        if node is None:
            yield path
        elif isinstance(node, dict):
            for key, value in node.items():
                yield from nulls(value, f"{path}/{key}")
        elif isinstance(node, list):
            for index, value in enumerate(node):
                yield from nulls(value, f"{path}/{index}")

    assert list(nulls(source(), "")) == []


@pytest.mark.parametrize("program", ["sam", "aws"])
def test_no_anchor_is_left_for_cloudformation_which_takes_none(program, tmp_path):
    """`sam build` and `aws cloudformation package` write every repeated block out; in both cases nothing is uploaded."""
    text = (ROOT / "template.yaml").read_text()
    uploaded, written = tmp_path / "template.yaml", tmp_path / "written.yaml"
    uploaded.write_text(text.replace("CodeUri: .\n", "CodeUri: s3://bucket/code.zip\n"))
    if program == "sam":
        written.write_text(yaml_dump(yaml_parse(uploaded.read_text())))
    else:
        command = [Path(sys.executable).with_name("aws"), "cloudformation", "package", "--s3-bucket", "bucket"]
        nobody = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": REGION}
        files = ["--template-file", uploaded, "--output-template-file", written]
        subprocess.run([*command, *files], env=os.environ | nobody, check=True, capture_output=True)
    kinds = {type(event) for event in yaml.parse(written.read_text())}
    assert yaml.AliasEvent not in kinds and "<<" not in written.read_text()
    assert yaml.AliasEvent in {type(event) for event in yaml.parse(text)}
    assert yaml_parse(written.read_text()) == yaml_parse(uploaded.read_text())


def test_every_lint_exception_has_its_reason():
    exceptions = [
        skip
        for resource in source()["Resources"].values()
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    ]
    assert exceptions
    assert all(len(skip["comment"]) > 40 for skip in exceptions)


@pytest.mark.parametrize("name", ["alert", "watch"])
def test_build_makes_the_functions_binary(name):
    metadata = source()["Resources"][f"{name.title()}Function"]["Metadata"]
    assert (metadata["BuildMethod"], metadata["BuildProperties"]) == ("rust-cargolambda", {"Binary": name})


def test_build_has_the_feature_that_the_watch_binary_requires():
    package = tomllib.loads((ROOT / "Cargo.toml").read_text())
    (watch,) = (binary for binary in package["bin"] if binary["name"] == "watch")
    assert watch["required-features"] == package["package"]["metadata"]["lambda"]["build"]["features"]


def test_deploying_asks_for_no_more_capability_than_the_stack_needs():
    config = tomllib.loads((ROOT / "samconfig.toml").read_text())
    assert config["default"]["deploy"]["parameters"]["capabilities"] == "CAPABILITY_IAM"
    # A role with a name of its own would need CAPABILITY_NAMED_IAM.
    assert all("RoleName" not in role for role in Stack().of_type("AWS::IAM::Role").values())


def test_shared_configuration_holds_no_account_data():
    text = (ROOT / "samconfig.toml").read_text()
    assert "arn:" not in text
    assert "parameter_overrides" not in text
    assert "profile" not in text


@pytest.mark.parametrize("recipe", sorted((ROOT / "docs/integrations").glob("*.yaml")), ids=lambda file: file.stem)
def test_cfn_lint_has_nothing_to_say_of_a_recipe(recipe):
    assert cfn_lint(recipe) == []
