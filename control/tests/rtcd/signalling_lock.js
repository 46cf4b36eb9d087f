// The lock that keeps client and server from offering at the same time: the server holds one for
// each session, and is asked for it over the data channel.

const RETRY_MS = 50;
const GIVE_UP_MS = 5000;

export class SignallingLock {
  #send;
  #waiting = []; // for the server's answers, which come in the order of the questions

  /** What the server answered, true or false each. */
  answers = [];

  /** `send(wanted)` sends Lock for true and Unlock for false. */
  constructor(send) {
    this.#send = send;
  }

  /** Asks until the lock is granted. */
  async take() {
    const until = performance.now() + GIVE_UP_MS;
    while (!(await this.#ask())) {
      if (performance.now() > until) throw new Error("the signalling lock was not granted in 5 s");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** Gives it back, if it is held. */
  release() {
    this.#send(false);
  }

  #ask() {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#send(true);
    });
  }

  /** The server's answer to a Lock. */
  handleAnswer(granted) {
    this.answers.push(granted);
    this.#waiting.shift()?.(granted);
  }
}
