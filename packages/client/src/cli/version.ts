// `millrace version`: what is running here.
import { PROTOCOL_VERSION } from '@millrace/protocol'
import { SOFTWARE } from '../connection.js'
import { EXIT, type ExitCode } from './exit-codes.js'
import type { Session } from './session.js'

export function version({ line, output }: Session): Promise<ExitCode> {
  const millrace = SOFTWARE.split('/')[1] ?? SOFTWARE
  const text = line.json
    ? JSON.stringify({ millrace, protocol: PROTOCOL_VERSION, node: process.versions.node })
    : `millrace ${millrace}, protocol ${PROTOCOL_VERSION}, Node.js ${process.versions.node}`
  void output.writeText(`${text}\n`)
  return Promise.resolve(EXIT.ok)
}
