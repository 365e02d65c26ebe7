//! Kafka bytes: framing, the guard, codecs of the hot path. Knows nothing of partitions.
