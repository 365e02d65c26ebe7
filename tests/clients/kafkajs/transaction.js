// A committed transaction is seen, an aborted one is not (kafkajs reads committed by default).
const { assert, kafka, topic, unique, eventually, member, run } = require('./common')

run(async () => {
  const name = await topic()
  const producer = kafka.producer({ transactionalId: unique('txn'), idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (const [value, end] of [['a', 'commit'], ['b', 'abort'], ['c', 'commit']]) {
    const transaction = await producer.transaction()
    await transaction.send({ topic: name, messages: [{ value }] })
    await transaction[end]()
  }
  const reader = await member(unique('g'), name)
  await eventually(() => reader.messages.length === 2, 'two messages')
  assert.deepEqual(reader.messages.map((m) => m.value.toString()), ['a', 'c'])
  await reader.consumer.disconnect()
  await producer.disconnect()
})
