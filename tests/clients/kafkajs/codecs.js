// Every codec: keys, headers, null values and timestamps come back as sent, in order.
const { assert, kafka, topic, unique, eventually, member, run, CompressionTypes } = require('./common')

run(async () => {
  const producer = kafka.producer()
  await producer.connect()
  for (const codec of ['None', 'GZIP', 'Snappy', 'LZ4', 'ZSTD']) {
    const name = await topic()
    const messages = [...Array(100).keys()].map((n) => ({
      key: `k${n}`, value: n % 20 ? `value ${n} `.repeat(n) : null, headers: { n: String(n) }, timestamp: String(1700000000000 + n),
    }))
    const [sent] = await producer.send({ topic: name, messages, compression: CompressionTypes[codec], acks: -1 })
    assert.equal(sent.errorCode, 0)
    assert.equal(sent.baseOffset, '0')
    const reader = await member(unique('g'), name)
    await eventually(() => reader.messages.length === 100, `100 messages with ${codec}`)
    reader.messages.forEach((got, n) => {
      assert.equal(got.offset, String(n))
      assert.equal(got.key.toString(), messages[n].key)
      assert.equal(got.value === null ? null : got.value.toString(), messages[n].value)
      assert.equal(got.headers.n.toString(), String(n))
      assert.equal(got.timestamp, messages[n].timestamp)
    })
    await reader.consumer.disconnect()
  }
  await producer.disconnect()
})
