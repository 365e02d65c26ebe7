"""Where Ringlog and Apache Kafka are meant to answer differently.

A test named here runs only against the broker named; elsewhere it is counted as a difference, never as passed. Each entry
says why. Everything not named here must hold on both.
"""

NO_TRANSACTIONS = "Ringlog has no transactions yet"

ONLY_ON = {
    "kcat.transaction_commits": ("kafka", NO_TRANSACTIONS),
    "librdkafka.transactions_commit_and_abort": ("kafka", NO_TRANSACTIONS),
    "librdkafka.transactional_producer_is_refused": ("ringlog", NO_TRANSACTIONS),
    "kafka_python.transaction_commits": ("kafka", NO_TRANSACTIONS),
    "kafkajs.transaction_commits": ("kafka", NO_TRANSACTIONS),
    "java_client.transactions": ("kafka", NO_TRANSACTIONS),
    "java_client.transactionsRefused": ("ringlog", NO_TRANSACTIONS),
    "protocol_log.transactional_init_is_refused": ("ringlog", NO_TRANSACTIONS),
}
