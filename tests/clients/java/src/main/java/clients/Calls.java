package clients;

import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicReference;
import software.amazon.awssdk.awscore.exception.AwsServiceException;
import software.amazon.awssdk.core.interceptor.Context;
import software.amazon.awssdk.core.interceptor.ExecutionAttributes;
import software.amazon.awssdk.core.interceptor.ExecutionInterceptor;

/** Counts the answers to an SDK's clients, and remembers the code of the last refusal. */
final class Calls implements ExecutionInterceptor {
  private final Daemon daemon;
  private final AtomicReference<String> refusal = new AtomicReference<>();

  Calls(Daemon daemon) {
    this.daemon = daemon;
  }

  @Override
  public void afterTransmission(Context.AfterTransmission context, ExecutionAttributes attributes) {
    daemon.calls.incrementAndGet();
  }

  @Override
  public void onExecutionFailure(Context.FailedExecution context, ExecutionAttributes attributes) {
    if (context.exception() instanceof AwsServiceException said) {
      refusal.set(said.awsErrorDetails().errorCode());
    }
  }

  /** Calls, and holds the failure to the refusal that was its cause, whatever a library makes of it; null if there was none. */
  void fail(String code, Callable<?> call) {
    refusal.set(null);
    var error = Daemon.refused(Exception.class, call);
    Daemon.hold(code == null ? refusal.get() == null : code.equals(refusal.get()), error + " after " + refusal + " instead of " + code);
  }
}
