# The table of a dynamodb-outbox.

variable "table_name" {
  description = "The table_name of the DynamoDBOutbox"
  type        = string
  default     = "events-outbox"
}

variable "projection" {
  description = "ALL copies whole events into the index; KEYS_ONLY makes large events cheaper"
  type        = string
  default     = "ALL"

  validation {
    condition     = contains(["ALL", "KEYS_ONLY"], var.projection)
    error_message = "The projection must be one of ALL, KEYS_ONLY."
  }
}

variable "index_keys" {
  description = "The key of the index: status, or statusShard with shards; both during a move to shards"
  type        = string
  default     = "status"

  validation {
    condition     = contains(["status", "statusShard", "both"], var.index_keys)
    error_message = "The index_keys must be one of status, statusShard, both."
  }
}

locals {
  index_keys = var.index_keys == "both" ? ["status", "statusShard"] : [var.index_keys]
}

resource "aws_dynamodb_table" "outbox" {
  name         = var.table_name
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "id"

  attribute {
    name = "id"
    type = "S"
  }

  attribute {
    name = "gsiSortKey"
    type = "N"
  }

  dynamic "attribute" {
    for_each = local.index_keys

    content {
      name = attribute.value
      type = "S"
    }
  }

  dynamic "global_secondary_index" {
    for_each = local.index_keys

    content {
      name            = "${global_secondary_index.value}-gsiSortKey-index"
      hash_key        = global_secondary_index.value
      range_key       = "gsiSortKey"
      projection_type = var.projection
    }
  }

  # It has no effect until a retention gives events the attribute.
  ttl {
    attribute_name = "expireAt"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  lifecycle {
    prevent_destroy = true
  }
}

output "table_name" {
  description = "The name of the table"
  value       = aws_dynamodb_table.outbox.name
}

output "table_arn" {
  description = "The ARN of the table"
  value       = aws_dynamodb_table.outbox.arn
}
