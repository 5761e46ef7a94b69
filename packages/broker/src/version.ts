// The version of this package, the same as in package.json (a test compares them: a library reads no files to start).

export const VERSION = '0.1.0'
/** What HELLO_REPLY and logs call this program. */
export const SOFTWARE = `millrace-broker/${VERSION}`
