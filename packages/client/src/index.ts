// The public face of @millrace/client.
export { partitionOfKey } from '@millrace/protocol'
export type { ClusterMapView, ClusterView, MapNode, MapPartition, MapTopic, Whereabouts } from './cluster-view.js'
export { connect } from './connect.js'
export { Consumer, type SeekPosition } from './consumer.js'
export { type ByteProducer, type DeadLetter, deadLetterOf } from './dead-letter.js'
export type { DecodeFailure, DecodeVerdict, OnDecodeError } from './decode-failures.js'
export type { BatchDelivery, Delivery, RecordOutcome } from './delivery.js'
export { BatchDeliveryError } from './delivery.js'
export {
  BufferFullError,
  type ClientErrorName,
  ConnectionError,
  DeliveryError,
  type DeliveryFailure,
  ERROR_CODES,
  type ErrorContext,
  type ErrorDescription,
  type FailedAttempt,
  type FailedOutcome,
  MillraceError,
  type MillraceErrorCode,
} from './errors.js'
export type { Assignment, PartitionLag } from './group-subscription.js'
export type { Interceptor, OutgoingRecord } from './interceptors.js'
export { Mill } from './mill.js'
export type { ConnectOptions, ConsumerOptions, DeliveryOptions, ProducerOptions, RetryOptions } from './options.js'
export type { PartitionContext, Partitioner } from './partitioner.js'
export { type CloseOptions, Producer, type SendOptions, type SendRecord } from './producer.js'
export { ConsumerRecord } from './record.js'
export { RecordBatch, type RecordView } from './record-batch.js'
export type { Scratch } from './scratch.js'
export { bytes, json, type Serde, utf8 } from './serde.js'
export type { SchemaIssue, SchemaResult, StandardSchemaV1 } from './standard-schema.js'
export type { ClientStatistics, MillStatus, StatusKind } from './status.js'
export { processByKey, processByPartition } from './streams/process-by.js'
export { processEach } from './streams/process-each.js'
export { type BatchesOptions, DeliveryStream, RecordStream } from './streams/record-stream.js'
export { type RetryOrDeadLetterOptions, retryOrDeadLetter } from './streams/retry-or-dead-letter.js'
export { settle } from './streams/settle.js'
export { type ToAsyncIterableOptions, toAsyncIterable } from './streams/to-async-iterable.js'
export { toTopic } from './streams/to-topic.js'
export { toReadableStream, toWritableStream } from './streams/web-streams.js'
export { NO_RESULT, type NoResult, type ProcessOptions, type Work, type WorkContext } from './streams/worker.js'
export type { From, SubscribeOptions, Until } from './subscribe-options.js'
export { type Topic, topic } from './topic.js'
export type { RecordSender } from './topic-writer.js'
export type { Logger } from './warnings.js'
