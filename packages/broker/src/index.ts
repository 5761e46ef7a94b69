// The public face of @millrace/broker.
export { type Broker, type BrokerConfig, DEFAULT_HOST, DEFAULT_PORT, startBroker } from './broker.js'
export { StartError, type StartErrorCode } from './start-error.js'
