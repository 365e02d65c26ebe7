public final class ClientTest { public static void main(String[] a) {} }
