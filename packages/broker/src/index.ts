// The public face of @millrace/broker: a broker inside another program.
export { type Broker, type BrokerConfig, startBroker } from './broker.js'
export type { Environment, EnvironmentKind, LogFields, Logger } from './environment.js'
export {
  type ChooseEnvironmentOptions,
  chooseEnvironment,
  type EnvironmentPreference,
  EnvironmentUnavailableError,
} from './io/choose-environment.js'
export { type ConsoleLoggerOptions, createConsoleLogger } from './io/console-logger.js'
export { DEFAULT_HOST, DEFAULT_PORT } from './limits.js'
export { StartError, type StartErrorCode } from './start-error.js'
