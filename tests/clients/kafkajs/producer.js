// acks 0, 1 and all, the idempotent producer, sendBatch over topics, and the errors a producer meets.
const { assert, kafka, topic, unique, eventually, member, run } = require('./common')

run(async () => {
  const [one, two, small, compacted] = [await topic(), await topic(3), await topic(1, { 'max.message.bytes': 1000 }),
    await topic(1, { 'cleanup.policy': 'compact' })]
  const producer = kafka.producer({ retry: { retries: 1 } })
  await producer.connect()
  for (const acks of [0, 1, -1]) await producer.send({ topic: one, acks, messages: [{ value: `acks ${acks}` }] })
  await producer.sendBatch({ topicMessages: [
    { topic: one, messages: [{ value: 'batch' }] },
    { topic: two, messages: [0, 1, 2].map((partition) => ({ partition, value: String(partition) })) },
  ] })
  const idempotent = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await idempotent.connect()
  for (let n = 0; n < 50; n++) await idempotent.send({ topic: one, messages: [{ value: `i${n}` }] })

  const reader = await member(unique('g'), one)
  await eventually(() => reader.messages.length === 54, '54 messages')
  assert.deepEqual(reader.messages.map((m) => m.value.toString()),
    ['acks 0', 'acks 1', 'acks -1', 'batch', ...[...Array(50).keys()].map((n) => `i${n}`)])
  await reader.consumer.disconnect()

  const type = async (promise) => promise.then(() => 'no error', (e) => e.type || (e.cause && e.cause.type) || e.name)
  assert.equal(await type(producer.send({ topic: small, messages: [{ value: 'x'.repeat(5000) }] })), 'MESSAGE_TOO_LARGE')
  assert.match(await type(producer.send({ topic: compacted, messages: [{ value: 'x' }] })), /INVALID_RECORD|UNKNOWN|KafkaJSProtocolError/)
  assert.equal(await type(producer.send({ topic: 'not legal', messages: [{ value: 'x' }] })), 'INVALID_TOPIC_EXCEPTION')
  await producer.disconnect()
  await idempotent.disconnect()
})
