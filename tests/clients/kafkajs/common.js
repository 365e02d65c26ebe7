// What the kafkajs tests share: the client, codecs, waiting, and the end of the process.
//
// A test file is run as `node FILE BOOTSTRAP PREFIX [ARGUMENT]`, and fails by throwing.

const assert = require('node:assert/strict')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const SnappyJS = require('snappyjs')
const lz4 = require('lz4js')
const xxh = require('lz4js/xxh32')
const zstd = require('@bokuweb/zstd-wasm')

const [, , bootstrap, prefix, argument] = process.argv
let counter = 0

CompressionCodecs[CompressionTypes.Snappy] = () => ({
  compress: async (encoder) => Buffer.from(SnappyJS.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(SnappyJS.uncompress(buffer)),
})
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => {
    // lz4js does not set the flag "blocks are independent", which Kafka asks for and which holds: one block is all there is.
    const frame = Buffer.from(lz4.compress(encoder.buffer))
    const end = 6 + (frame[4] & 0x08 ? 8 : 0)
    frame[4] |= 0x20
    frame[end] = (xxh.hash(0, frame, 4, end - 4) >> 8) & 0xff
    return frame
  },
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(zstd.decompress(buffer)),
})

const kafka = new Kafka({ clientId: prefix, brokers: [bootstrap], logLevel: logLevel.WARN, retry: { retries: 5 } })
const unique = (what = 't') => `${prefix}-${what}-js${++counter}`

async function topic(numPartitions = 1, config = {}) {
  const admin = kafka.admin()
  const name = unique()
  await admin.connect()
  const configEntries = Object.entries(config).map(([name, value]) => ({ name, value: String(value) }))
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic: name, numPartitions, configEntries }] })
  await admin.disconnect()
  return name
}

async function eventually(condition, what, seconds = 20) {
  const deadline = Date.now() + seconds * 1000
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `not within ${seconds} s: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

// Subscribes, collects messages, and says which partitions the member has.
async function member(groupId, topic, options = {}) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000, maxWaitTimeInMs: 200, ...options })
  const state = { consumer, messages: [], partitions: [] }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => { state.partitions = payload.memberAssignment[topic] || [] })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ partition, message }) => { state.messages.push({ partition, ...message }) },
  })
  return state
}

function run(main) {
  Promise.resolve(zstd.init())
    .then(() => main(argument))
    .then(() => process.exit(0), (error) => { console.error(error); process.exit(1) })
}

module.exports = { assert, kafka, topic, unique, eventually, member, run, CompressionTypes }
