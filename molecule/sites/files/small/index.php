<title>PHP</title> release <?php echo getenv('APP_RELEASE'); ?>
