"""The CDK app. Settings come as context: ``make synth SET="memory_mb=256"``; and ``zip``, where the function's is."""

from __future__ import annotations

import sys
from pathlib import Path

import aws_cdk as cdk
from cdk_nag import AwsSolutionsChecks

from package import zip_path
from settings import SettingsError, read_settings
from stack import CrawlerStack


def main() -> int:
    app = cdk.App()
    try:
        settings = read_settings(app.node.try_get_context)
    except SettingsError as error:
        print(f"sqspider: {error}", file=sys.stderr)
        return 2
    code = Path(app.node.try_get_context("zip") or zip_path(settings.package))
    if not code.exists():
        print(f"sqspider: {code} is not built: python infra/package.py {settings.package}", file=sys.stderr)
        return 2
    CrawlerStack(app, settings, code)
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
