// Files that import each other in a circle, type imports included: none of them can be read or tested alone.
import { type Finding, packageOf, type Repository } from '../repository.js'

/** One finding per circle, at its first file by name. */
export function cycles(repository: Repository): readonly Finding[] {
  const graph = new Map<string, readonly string[]>()
  for (const file of repository.files) {
    if (!file.isTypeScript || packageOf(file.path) === null) continue
    const targets = file.imports.flatMap((imported) => imported.target ?? [])
    graph.set(
      file.path,
      targets.filter((target) => repository.get(target) !== undefined),
    )
  }
  return circles(graph).map((members) => ({
    rule: 'cycles',
    path: members[0] ?? '',
    line: 0,
    message: `imports itself in a circle: ${members.join(' ↔ ')}`,
  }))
}

/** Strongly connected components of more than one file, and files that import themselves (Tarjan, 1972). */
function circles(graph: ReadonlyMap<string, readonly string[]>): readonly (readonly string[])[] {
  const found: string[][] = []
  const order = new Map<string, number>()
  const stack: string[] = []
  const visit = (path: string): number => {
    const index = order.size
    order.set(path, index)
    let lowest = index
    stack.push(path)
    for (const target of graph.get(path) ?? []) {
      const seen = order.get(target)
      if (seen === undefined) lowest = Math.min(lowest, visit(target))
      else if (stack.includes(target)) lowest = Math.min(lowest, seen)
    }
    if (lowest === index) {
      const members = stack.splice(stack.indexOf(path))
      if (members.length > 1 || (graph.get(path) ?? []).includes(path)) found.push(members.sort())
    }
    return lowest
  }
  for (const path of graph.keys()) if (!order.has(path)) visit(path)
  return found
}
