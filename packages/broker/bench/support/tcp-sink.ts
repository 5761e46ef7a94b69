// Child of the loopback limit: connects to its parent and takes bytes as fast as it can.
import { connect } from 'node:net'

const port = Number(process.argv[2])
const buffer = Buffer.allocUnsafeSlow(1024 * 1024)
const socket = connect({ port, host: '127.0.0.1', onread: { buffer, callback: () => true } })
socket.on('error', (error) => {
  console.error(`tcp sink: ${error.message}`)
  process.exitCode = 1
})
