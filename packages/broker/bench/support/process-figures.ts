// CPU time and memory of another process, from /proc; null where there is no /proc.
import { readFileSync } from 'node:fs'

/** Linux reports times in ticks of 1/100 s on every architecture Node runs on. */
const TICKS_PER_SECOND = 100

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}

/** User and system seconds of a process, all threads. */
export function cpuSeconds(pid: number): number | null {
  const stat = read(`/proc/${pid}/stat`)
  if (stat === null) return null
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

function statusMb(pid: number, field: string): number | null {
  const status = read(`/proc/${pid}/status`)
  const line = status?.split('\n').find((row) => row.startsWith(`${field}:`))
  return line === undefined ? null : (Number(line.replace(/\D/g, '')) * 1024) / 1e6
}

export const peakRssMb = (pid: number): number | null => statusMb(pid, 'VmHWM')
export const rssMb = (pid: number): number | null => statusMb(pid, 'VmRSS')

/** Bytes that a process had the disk read, direct or through the page cache; null off Linux. */
export function readBytes(pid: number): number | null {
  const line = read(`/proc/${pid}/io`)?.match(/^read_bytes: (\d+)$/m)
  return line == null ? null : Number(line[1])
}

/** Seconds that the main thread of a process was ready to run and waited for a core; null off Linux. */
export function readySeconds(pid: number): number | null {
  const times = read(`/proc/${pid}/schedstat`)
  return times === null ? null : Number(times.split(' ')[1]) / 1e9
}
