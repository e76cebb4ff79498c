"""`ocrfleet bucket-rules`: let the store itself tell of a rule's objects, where it can be told to by S3 calls."""

from typing import Annotated
from urllib.parse import urlsplit

import typer
from minio import Minio
from minio.error import MinioException, S3Error
from minio.notificationconfig import (
    NotificationConfig,
    PrefixFilterRule,
    QueueConfig,
    SuffixFilterRule,
    TopicConfig,
)
from urllib3.exceptions import HTTPError

from ocrfleet.cli import connect
from ocrfleet.cli.console import put, put_json, reports_errors
from ocrfleet.cli.rules import Name, named
from ocrfleet.client.buckets import BucketRule
from ocrfleet.errors import InputNotFound, StorageUnavailable, ValidationFailed
from ocrfleet.settings import Settings, settings

app = typer.Typer(no_args_is_help=True, help="Let the store tell of what a rule is for.")
CREATED = "s3:ObjectCreated:*"
INSTEAD = """\
  MinIO:     mc admin config set ALIAS notify_webhook:ocrfleet endpoint=URL/v1/bucket-events/SOURCE auth_token=TOKEN
             and restart it; its ARN is then arn:minio:sqs::ocrfleet:webhook
  SeaweedFS: has no notifications by S3 calls; put into notification.toml beside the filer, and restart it:
             [notification.webhook]
             enabled = true
             endpoint = "URL/v1/bucket-events/SOURCE"
             bearer_token = "TOKEN"
             event_types = ["create", "update", "rename"]
             path_prefixes = ["/buckets/{bucket}/{prefix}"]
  The token is made by `ocrfleet events add-source SOURCE`. Without any of it the rule's prefix is listed every {rescan} s."""


@app.callback()
def bucket_rules() -> None:
    """Let the store tell of what a rule is for."""


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="bucket-rules")


@app.command("set")
@reports_errors
def set_notification(
    name: Name,
    *,
    target: Annotated[
        str, typer.Option(help="ARN of the webhook that the store is configured with, or of an SNS topic.")
    ] = "arn:minio:sqs::ocrfleet:webhook",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Set the notification on the rule's bucket; others that it has stay."""
    config = connect.servers(settings())
    with connect.api(settings()) as client:
        rule = named(client, name)
    notify(store(config), rule, target)
    if json:
        put_json({"bucket": rule["bucket"], "target": target, "id": entry_id(rule)})
    else:
        put(f"{rule['bucket']} tells {target} of {rule['prefix']}*{rule['suffix']}")


def store(config: Settings) -> Minio:
    """A client of the store that the settings name."""
    url = urlsplit(config.store_url)
    return Minio(
        url.netloc,
        access_key=config.store_access_key,
        secret_key=config.store_secret_key.get_secret_value(),
        secure=url.scheme == "https",
        region=config.store_region,
    )


def entry_id(rule: BucketRule) -> str:
    """Of our entry in the bucket's configuration: setting it again replaces it."""
    return f"ocrfleet-{rule['name']}"


def notify(client: Minio, rule: BucketRule, target: str) -> None:
    """Add our entry, or replace it. ValidationFailed, with what to do instead, where the store keeps none."""
    bucket, ours = rule["bucket"], entry_id(rule)
    try:
        # A store that knows no notifications may take the call for one that makes the bucket.
        if not client.bucket_exists(bucket):
            raise InputNotFound(f"the store has no bucket {bucket}")
        before = client.get_bucket_notification(bucket)
        client.set_bucket_notification(bucket, with_entry(before, rule, target))
        kept = client.get_bucket_notification(bucket)
    except S3Error as exc:
        raise ValidationFailed(f"the store refused it: {exc.code}: {exc.message}\n{_instead(rule)}") from exc
    except (MinioException, HTTPError) as exc:
        raise StorageUnavailable(f"{bucket}: {exc}") from exc
    if ours not in {one.config_id for one in (*kept.queue_config_list, *kept.topic_config_list)}:
        raise ValidationFailed(f"the store took it and did not keep it\n{_instead(rule)}")


def with_entry(before: NotificationConfig, rule: BucketRule, target: str) -> NotificationConfig:
    """The configuration with the rule's entry, whatever it had of that before."""
    ours = entry_id(rule)
    queues = [one for one in before.queue_config_list if one.config_id != ours]
    topics = [one for one in before.topic_config_list if one.config_id != ours]
    prefix = PrefixFilterRule(rule["prefix"]) if rule["prefix"] else None
    suffix = SuffixFilterRule(rule["suffix"]) if rule["suffix"] else None
    if target.split(":")[2:3] == ["sns"]:
        topics.append(TopicConfig([CREATED], ours, prefix, suffix, target))
    else:
        queues.append(QueueConfig([CREATED], ours, prefix, suffix, target))
    return NotificationConfig(before.cloud_func_config_list, queues, topics)


def _instead(rule: BucketRule) -> str:
    return INSTEAD.format(bucket=rule["bucket"], prefix=rule["prefix"], rescan=rule["rescan_seconds"])
