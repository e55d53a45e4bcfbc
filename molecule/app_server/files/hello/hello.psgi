my $app = sub {
    my $env = shift;
    return [200, ['Content-Type' => 'text/plain'], ["hello from perl, release $ENV{APP_RELEASE}"]];
};
