// seek, offsets by time, from the end, and out of range.
const { assert, kafka, topic, unique, eventually, member, run } = require('./common')

run(async () => {
  const name = await topic()
  const producer = kafka.producer()
  await producer.connect()
  for (let n = 0; n < 30; n++) {
    await producer.send({ topic: name, messages: [{ value: String(n), timestamp: String(1700000000000 + n * 1000) }] })
  }
  const admin = kafka.admin()
  await admin.connect()
  assert.deepEqual(await admin.fetchTopicOffsetsByTimestamp(name, 1700000012500), [{ partition: 0, offset: '13' }])
  assert.deepEqual(await admin.fetchTopicOffsets(name), [{ partition: 0, offset: '30', high: '30', low: '0' }])
  const reader = await member(unique('g'), name)
  await eventually(() => reader.messages.length === 30, 'all')
  reader.consumer.seek({ topic: name, partition: 0, offset: '25' })
  await eventually(() => reader.messages.length === 35, 'five again')
  assert.equal(reader.messages[30].offset, '25')
  // Out of range: kafkajs asks for the default offset (the earliest here) and goes on.
  reader.consumer.seek({ topic: name, partition: 0, offset: '5000' })
  await eventually(() => reader.messages.length === 65, 'all again')
  assert.equal(reader.messages[35].offset, '0')
  await reader.consumer.disconnect()
  await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: '10' }] })
  assert.deepEqual(await admin.fetchTopicOffsets(name), [{ partition: 0, offset: '30', high: '30', low: '10' }])
  await admin.disconnect()
  await producer.disconnect()
})
